"""The same work done by Millstream, by Node-RED as its users write it, and by a script written by hand for it alone."""
