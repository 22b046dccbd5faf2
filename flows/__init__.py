"""What a person starts, and the order of things."""
