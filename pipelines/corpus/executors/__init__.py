"""Where shards are worked on: this machine, Slurm or Ray, each through datatrove's executor for it."""
