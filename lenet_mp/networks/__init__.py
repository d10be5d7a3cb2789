"""What a network is: tables of layers, their sizes, one flat parameter vector."""
