"""The HTTP side: answers SCIM requests from the newest snapshot and nothing else."""
