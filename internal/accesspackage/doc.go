// Package accesspackage builds the copy that a subject receives (GDPR Art. 15(3) and 20): it stages what connectors
// export as encrypted files, one part per Request and System, and assembles them into an encrypted zip. Memory is
// bounded by the block size and by the number of entities and files, never by the number of records.
//
// What is in the zip: index.html (a first look, offline), README.LANG.txt, data/SYSTEM/ENTITY.json and .csv, files/,
// withheld.html, art15.html and manifest.json.
package accesspackage
