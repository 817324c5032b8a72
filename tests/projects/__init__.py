"""Django projects of many kinds, a row each: `rows` has their settings, `walk` what a user does there."""
