//! Every rule of the repository as a program.
