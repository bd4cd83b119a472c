"""Past one call and one process: answers in parts that a broken run completes, by one process or several."""
