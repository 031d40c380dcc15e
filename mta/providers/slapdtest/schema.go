package slapdtest

// Schema is the directory schema of RFC 6109 §4.5 as slapd.conf reads it.
const Schema = `
objectidentifier pecAttributes 1.3.6.1.4.1.16572.2.2
objectidentifier pecClasses 1.3.6.1.4.1.16572.2.1

attributetype ( pecAttributes:1 NAME 'providerCertificateHash'
  DESC 'SHA-1 of a certificate, hexadecimal'
  EQUALITY caseIgnoreIA5Match
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 )
attributetype ( pecAttributes:2 NAME 'providerCertificate'
  DESC 'Certificate that signs for the provider, DER'
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.8 )
attributetype ( pecAttributes:3 NAME 'providerName'
  DESC 'Name of the provider'
  EQUALITY caseIgnoreMatch
  SUBSTR caseIgnoreSubstringsMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( pecAttributes:4 NAME 'mailReceipt'
  DESC 'Service mailbox of the provider'
  EQUALITY caseIgnoreIA5Match
  SUBSTR caseIgnoreIA5SubstringsMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 SINGLE-VALUE )
attributetype ( pecAttributes:5 NAME 'managedDomains'
  DESC 'Mail domains of the provider'
  EQUALITY caseIgnoreIA5Match
  SUBSTR caseIgnoreIA5SubstringsMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 )
attributetype ( pecAttributes:6 NAME 'LDIFLocationURL'
  DESC 'Where the signed LDIF file of the entry is'
  EQUALITY caseExactMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( pecAttributes:7 NAME 'providerUnit'
  DESC 'Name of a secondary environment'
  EQUALITY caseIgnoreMatch
  SUBSTR caseIgnoreSubstringsMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )

objectclass ( pecClasses:1 NAME 'LDIFLocationURLObject'
  SUP top AUXILIARY
  MAY ( LDIFLocationURL ) )
objectclass ( pecClasses:2 NAME 'provider'
  SUP top STRUCTURAL
  MUST ( providerCertificateHash $ providerCertificate $ providerName $ mailReceipt $ managedDomains )
  MAY ( description $ LDIFLocationURL $ providerUnit ) )
`
