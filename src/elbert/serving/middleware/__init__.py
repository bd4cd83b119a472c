"""What every request passes before its route, one file per concern; plain ASGI, so that bodies can stream."""
