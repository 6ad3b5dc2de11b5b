"""What the local provider photographs products with: a cut-out, a backdrop in the style's palette, light and shadow."""
