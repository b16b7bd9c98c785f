//! What is wrong with an input is said in a sentence, with the right exit code, and before anything is sent if it can be
//! known then.

mod at_the_control_plane;
mod at_the_org;
mod in_the_workflow;
