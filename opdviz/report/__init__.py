"""What leaves this machine: packs that open anywhere without the checkpoints."""
