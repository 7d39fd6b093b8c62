"""Several processes that are one service: who starts them, and how they hear of each other."""
