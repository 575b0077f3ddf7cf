"""What a lab and its proof leave beside a store, read for pages: lab.json, truth.jsonl, proof.json."""
