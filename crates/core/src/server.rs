//! What a server decides: policies, visibility, how an intent changes a row.
