"""What `collect-train doctor` looks at, one module for each part of the world."""
