//! Stores that give events their places.
