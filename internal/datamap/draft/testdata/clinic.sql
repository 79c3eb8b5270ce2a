-- PostgreSQL, French names mixed with Latin abbreviations, a table of details that shares its key, composite keys
CREATE TABLE patients (
  ipp varchar(20) PRIMARY KEY, nom_naissance varchar(80) NOT NULL, prenoms varchar(120) NOT NULL, date_naissance date NOT NULL,
  sexe char(1), nir varchar(15) UNIQUE, courriel varchar(150), telephone_portable varchar(20), adresse_ligne1 varchar(150),
  code_postal varchar(10), commune varchar(80), medecin_traitant varchar(120), personne_a_prevenir varchar(150), cree_le timestamptz
);
CREATE TABLE praticiens (
  rpps varchar(11) PRIMARY KEY, nom varchar(80) NOT NULL, prenom varchar(80) NOT NULL, specialite varchar(60), email_pro varchar(150)
);
CREATE TABLE sejours (
  etablissement int NOT NULL, numero int NOT NULL, ipp varchar(20) NOT NULL REFERENCES patients (ipp), entree date NOT NULL, sortie date,
  motif text, PRIMARY KEY (etablissement, numero)
);
CREATE INDEX ON sejours (ipp);
CREATE TABLE actes (
  id bigint PRIMARY KEY, etablissement int NOT NULL, numero int NOT NULL, praticien_rpps varchar(11) REFERENCES praticiens (rpps) ON DELETE SET NULL,
  code_ccam char(7) NOT NULL, compte_rendu text, realise_le date NOT NULL,
  FOREIGN KEY (etablissement, numero) REFERENCES sejours (etablissement, numero)
);
CREATE INDEX ON actes (etablissement, numero);
CREATE INDEX ON actes (praticien_rpps);
CREATE TABLE resultats (
  id bigint PRIMARY KEY, patient_ipp varchar(20) NOT NULL REFERENCES patients (ipp), examen varchar(40) NOT NULL, valeur varchar(40),
  interpretation text, preleve_le timestamptz
);
CREATE INDEX ON resultats (patient_ipp);
CREATE TABLE allergies (
  ipp varchar(20) NOT NULL REFERENCES patients (ipp), allergene varchar(80) NOT NULL, gravite varchar(20), PRIMARY KEY (ipp, allergene)
);
CREATE TABLE couverture (
  ipp varchar(20) PRIMARY KEY REFERENCES patients (ipp), mutuelle varchar(80), numero_adherent varchar(30), iban_remboursement varchar(34)
);
CREATE TABLE ccam (code char(7) PRIMARY KEY, libelle varchar(200) NOT NULL, tarif numeric(8,2));
COMMENT ON COLUMN patients.personne_a_prevenir IS 'nom et telephone du contact en cas d''urgence'
