"""Everything that starts, watches and stops the studio's processes; imports neither Django nor torch."""
