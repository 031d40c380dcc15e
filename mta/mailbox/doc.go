// Package mailbox holds the accounts of a provider and their mailboxes: a
// Maildir++ store that Dovecot can serve as it is, and a passwd file in
// Dovecot's format.
//
// What the store promises: a message delivered by Prepare, Sync and Publish is
// in new/ exactly once, with exactly the bytes given, whatever is killed or
// loses power in between, if the caller keeps a durable note between the steps:
//
//  1. Prepare writes tmp/N. Sync makes the file and its name durable.
//  2. The caller makes its note "publishing" durable. From here on the message
//     counts as delivered.
//  3. Publish renames tmp/N to new/N and makes both folders durable; or Move
//     renames it, and a later Sync, which other messages may share, makes the
//     folders durable.
//  4. The caller makes its note "published" durable, by which it forgets that of
//     step 2.
//
// After a crash a caller without the note of step 2 starts over with Prepare,
// which writes tmp/N again. One with it calls Publish on what Resume gives: a
// tmp/N that is absent was published, because nobody removes it except CleanTmp,
// which only recovery calls, before IMAP and POP3 open, and which leaves what
// the caller still needs. Looking into new/ would prove nothing: the holder may
// have moved or deleted the message already.
//
// What it never does: prepend or change a byte, hold a message in memory, or
// write to cur/, which belongs to the server that the holder reads with.
//
// On disk: ROOT/<domain>/<local part>/{tmp,new,cur}, folders 0700, files 0600;
// names as Dovecot gives them, "<seconds>.<unique>.<host>,S=<size>,W=<size>";
// quota in the file maildirsize. Sources: maildir(5); Maildir++ (Courier,
// README.maildirquota); Dovecot's "Maildir" and "passwd-file" pages; RFC 9106
// (Argon2); for the order of durable steps, see package durable.
package mailbox
