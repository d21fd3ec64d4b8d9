"""The model sizes as rows of one table, without torch."""

from dataclasses import dataclass
from typing import Literal

SizeName = Literal["tiny", "smoke", "mini", "demo", "compact", "small", "base"]


@dataclass(frozen=True)
class Size:
    """Depth, widths and heads; `d_ff` is the width of a feed-forward of three matrices."""

    n_layer: int
    d_model: int
    n_head: int
    n_kv_head: int
    d_ff: int

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.n_head


SIZES: dict[SizeName, Size] = {
    "tiny": Size(n_layer=2, d_model=96, n_head=3, n_kv_head=3, d_ff=256),
    "smoke": Size(n_layer=4, d_model=128, n_head=4, n_kv_head=4, d_ff=384),
    "mini": Size(n_layer=4, d_model=192, n_head=3, n_kv_head=3, d_ff=512),
    "demo": Size(n_layer=6, d_model=256, n_head=4, n_kv_head=4, d_ff=704),
    "compact": Size(n_layer=8, d_model=384, n_head=6, n_kv_head=6, d_ff=1024),
    "small": Size(n_layer=12, d_model=768, n_head=12, n_kv_head=12, d_ff=2048),
    "base": Size(n_layer=16, d_model=2048, n_head=32, n_kv_head=8, d_ff=8192),
}
