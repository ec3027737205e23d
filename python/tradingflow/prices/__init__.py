"""What tokens are worth: prices that several sources agree on, for every service that trades or tells values."""
