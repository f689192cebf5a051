"""Pure steps, the topology that joins them, and the drivers that walk it."""
