"""Pictures made out of one picture, besides staged rooms and product scenes: plain image work, no model."""
