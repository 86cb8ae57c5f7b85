"""The papers, one readable room each; no room imports another paper."""
