"""The knowledge of collect-train: collect, curate, tokenize, model, train, evaluate, export. Knows no Prefect."""
