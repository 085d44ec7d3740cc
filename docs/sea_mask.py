"""Make `trackgen_core/data/sea.npz`, a map of the open sea, of the package global-land-mask (MIT; GLOBE, NOAA).

    pip install global-land-mask && python docs/sea_mask.py

A pixel is a square of two arc minutes. It is open sea if all of it and of its eight neighbours is water, so that no
road along a coast and no bridge is at sea. It takes 1 GB of memory, once; the file has 0.2 MB.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

PIXEL = 4  # of the source's, which have 30 seconds


def main() -> None:
    """Write the file."""
    import global_land_mask

    source = Path(global_land_mask.__file__).parent / "globe_combined_mask_compressed.npz"
    water = np.load(source)["mask"]  # from north to south, from west to east
    rows, columns = (side // PIXEL for side in water.shape)
    sea = water.reshape(rows, PIXEL, columns, PIXEL).all(axis=(1, 3))
    sea = sea & np.roll(sea, 1, axis=1) & np.roll(sea, -1, axis=1)  # over the antimeridian, too
    padded = np.pad(sea, ((1, 1), (0, 0)), mode="edge")
    sea = sea & padded[:-2] & padded[2:]
    target = Path(__file__).parent.parent / "trackgen_core" / "data" / "sea.npz"
    np.savez_compressed(target, bits=np.packbits(sea, axis=1), columns=columns)
    print(f"{target}: {target.stat().st_size / 1e6:.2f} MB, {sea.mean():.1%} of the pixels")


if __name__ == "__main__":
    main()
