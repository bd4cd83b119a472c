"""One encoder layer on packed rows: its products, its attention, in floating point and in 8-bit integers."""
