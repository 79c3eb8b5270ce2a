-- MariaDB, German names, abbreviations, some foreign keys missing
CREATE TABLE shop_kunden (
  kunden_nr INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  anrede VARCHAR(10), vorname VARCHAR(80), nachname VARCHAR(80) NOT NULL,
  eMail VARCHAR(190) NOT NULL, tel_privat VARCHAR(40), geb_datum DATE,
  pw_hash CHAR(60) NOT NULL, kundengruppe VARCHAR(20) NOT NULL DEFAULT 'standard',
  newsletter TINYINT(1) NOT NULL DEFAULT 0, angelegt_am DATETIME NOT NULL, letzter_login DATETIME,
  UNIQUE KEY (eMail)
);
CREATE TABLE shop_adressen (
  id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, kunden_nr INT UNSIGNED NOT NULL,
  firma VARCHAR(120), strasse VARCHAR(120) NOT NULL, hausnr VARCHAR(10), plz VARCHAR(10) NOT NULL, ort VARCHAR(80) NOT NULL,
  land CHAR(2) NOT NULL, KEY (kunden_nr)
);
CREATE TABLE shop_artikel (
  artikel_nr INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, bezeichnung VARCHAR(200) NOT NULL, preis DECIMAL(10,2) NOT NULL,
  beschreibung TEXT, lagerbestand INT NOT NULL
);
CREATE TABLE shop_bestellungen (
  bestell_nr INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, kunden_nr INT UNSIGNED NOT NULL,
  liefer_adresse_id INT UNSIGNED, bestellt_am DATETIME NOT NULL, status ENUM('offen','bezahlt','versandt') NOT NULL,
  summe DECIMAL(10,2) NOT NULL, kundenkommentar TEXT, ip_adresse VARCHAR(45),
  FOREIGN KEY (kunden_nr) REFERENCES shop_kunden (kunden_nr)
);
CREATE TABLE shop_positionen (
  id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, bestell_nr INT UNSIGNED NOT NULL, artikel_nr INT UNSIGNED NOT NULL,
  menge INT NOT NULL, einzelpreis DECIMAL(10,2) NOT NULL, gravur VARCHAR(255),
  FOREIGN KEY (bestell_nr) REFERENCES shop_bestellungen (bestell_nr),
  FOREIGN KEY (artikel_nr) REFERENCES shop_artikel (artikel_nr)
);
CREATE TABLE shop_bankverbindungen (
  id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, kunden_nr INT UNSIGNED NOT NULL, kontoinhaber VARCHAR(120), iban VARCHAR(34) NOT NULL,
  bic VARCHAR(11), mandat_vom DATE, KEY (kunden_nr)
);
CREATE TABLE shop_bewertungen (
  id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, artikel_nr INT UNSIGNED NOT NULL, kunden_nr INT UNSIGNED NOT NULL,
  sterne TINYINT NOT NULL, bewertung TEXT, freigegeben TINYINT(1) NOT NULL,
  KEY (artikel_nr), FOREIGN KEY (kunden_nr) REFERENCES shop_kunden (kunden_nr)
);
CREATE TABLE shop_newsletter (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, mail VARCHAR(190) NOT NULL UNIQUE, bestaetigt_am DATETIME)
