"""What the servers for people share: a port, and the champion that is followed."""
