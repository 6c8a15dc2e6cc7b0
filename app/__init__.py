"""An online person re-identification service: a crop comes in, the service answers who in the gallery it is."""
