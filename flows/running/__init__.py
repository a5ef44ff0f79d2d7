"""How a flow and its stages are started, watched and ended, here and on other machines."""
