"""What a worker needs: deployments, pools and the Prefect plugin."""
