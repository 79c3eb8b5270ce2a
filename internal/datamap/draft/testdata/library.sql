-- SQLite: a lending library with branches, staff who only work with rows, shared addresses and suppliers
CREATE TABLE address (id INTEGER PRIMARY KEY, line1 TEXT NOT NULL, line2 TEXT, zip TEXT, town_id INTEGER);
CREATE TABLE town (id INTEGER PRIMARY KEY, town_name TEXT NOT NULL);
CREATE TABLE staff (
  id INTEGER PRIMARY KEY, given_name TEXT NOT NULL, family_name TEXT NOT NULL, email TEXT NOT NULL UNIQUE, address_id INTEGER REFERENCES address (id)
);
CREATE INDEX s1 ON staff (address_id);
CREATE TABLE branch (
  id INTEGER PRIMARY KEY, manager_id INTEGER NOT NULL REFERENCES staff (id), address_id INTEGER NOT NULL REFERENCES address (id), opened_on TEXT
);
CREATE INDEX b1 ON branch (manager_id);
CREATE INDEX b2 ON branch (address_id);
CREATE TABLE supplier (
  id INTEGER PRIMARY KEY, company_name TEXT NOT NULL, contact_name TEXT, phone TEXT, street TEXT
);
CREATE TABLE book (id INTEGER PRIMARY KEY, title TEXT NOT NULL, supplier_id INTEGER REFERENCES supplier (id));
CREATE TABLE copy_ (id INTEGER PRIMARY KEY, book_id INTEGER NOT NULL REFERENCES book (id), branch_id INTEGER NOT NULL REFERENCES branch (id));
CREATE TABLE borrower (
  id INTEGER PRIMARY KEY, card_no TEXT NOT NULL UNIQUE, given_name TEXT NOT NULL, family_name TEXT NOT NULL, email TEXT, home_phone TEXT,
  address_id INTEGER REFERENCES address (id), born TEXT, branch_id INTEGER REFERENCES branch (id)
);
CREATE INDEX r1 ON borrower (address_id);
CREATE INDEX r2 ON borrower (branch_id);
CREATE TABLE loan (
  id INTEGER PRIMARY KEY, borrower_id INTEGER NOT NULL REFERENCES borrower (id), copy_id INTEGER NOT NULL REFERENCES copy_ (id),
  staff_id INTEGER NOT NULL REFERENCES staff (id), due_on TEXT, remark TEXT
);
CREATE INDEX l1 ON loan (borrower_id);
CREATE INDEX l2 ON loan (staff_id)
