"""The chain as seen by who keeps none of it: from one pinned checkpoint, by proofs (`proto/spec/light-client.md`)."""
