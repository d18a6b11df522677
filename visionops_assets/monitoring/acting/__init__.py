"""What follows from judged days: labels asked for, holds, rollbacks, and their record."""
