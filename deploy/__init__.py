"""What it takes to run Darkroom: on one machine (`local`), as an image, in a cluster."""
