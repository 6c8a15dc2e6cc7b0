"""Drawn people: a data set in DukeMTMC-reID's layout that anyone may own, and the demo model trained on such people."""
