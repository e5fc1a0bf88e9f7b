"""What is served: the catalogue, its snapshots, and the archives made of them. Nothing in here serves."""
