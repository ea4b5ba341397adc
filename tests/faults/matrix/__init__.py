"""The fault matrix: what is lost, doubled and split when parts are killed, stopped, filled up and redeployed."""
