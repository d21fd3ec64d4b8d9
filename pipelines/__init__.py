"""The work itself: pure stages, their typed configs and the products that chain them."""
