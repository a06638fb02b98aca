"""What every room uses: states, fields, options, events, solutions. It knows no method and no
engine."""
