"""Reading text in images of mixed sizes: three models, one daemon (run demo.py)."""
