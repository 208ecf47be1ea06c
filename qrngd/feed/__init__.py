"""The feed: who gets the next unit, batches under one attestation, sessions with nodes (`proto/spec/entropy-feed.md`, "Feed")."""
