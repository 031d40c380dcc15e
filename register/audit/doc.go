// Package audit reads everything that a register keeps and checks it against
// everything else, from the leaves of the log up:
//
//  1. every time stamp and every other checkpoint that was kept or given out, and
//     that the log of that size has their root;
//  2. the files of the databases, block by block;
//  3. the leaves, the tiles and the root that follow from them; of every record
//     its commitment and id; that the message that it tells of is kept and is the
//     one that it names; that the time stamps and packages that it tells of are
//     there;
//  4. every stored message, and that a record tells of it;
//  5. every kept content;
//  6. what others add (Options.Steps).
//
// What it promises: it changes nothing but its own state file, goes on after what
// it finds, names file and offset, or leaf, and tells of what it could not read
// just as of what is wrong. An audit that was given up goes on where it was.
//
// What it cannot see: damage to what nothing commits to. Mailboxes belong to their
// holders, who may change and delete; accounts and configuration are what an
// operator writes. A record whose leaf was lost before any checkpoint covered it,
// with everything that tells of it, was never there.
package audit
