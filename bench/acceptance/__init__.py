"""How often a real model's answer passes the gate, by what it gets to know before it answers."""
