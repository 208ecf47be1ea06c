"""The ledger: what the chain's state is and what every transaction does to it (`proto/spec/ledger.md`)."""
