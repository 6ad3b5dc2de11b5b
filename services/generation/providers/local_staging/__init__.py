"""What the local provider stages a room with: looks as data, and the drawing and light they ask for."""
