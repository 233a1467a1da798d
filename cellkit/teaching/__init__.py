"""From labels to what a network learns: cubes, pools, and how good it then is."""
