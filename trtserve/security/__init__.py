"""Who may call, with what proof: certificates, tokens, the access file, rates, the Unix socket."""
