"""The host `speedy`: jcm (dinosaur dynamics, SPEEDY column physics, real geography)."""
