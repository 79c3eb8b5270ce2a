package connectors

import (
	"slices"
	"strings"
	"unicode"

	"github.com/lethe-gdpr/lethe/dsr"
)

// Guess is what a column seems to hold, judged by its name, type and comment alone.
type Guess struct {
	Category string // Fideslang data category
	// Identifier is the kind of identifier that the values may be; empty when they identify nobody.
	Identifier dsr.IdentifierKind
	// Weak guesses depend on the table: a name in customers is a person's, one in products is not.
	Weak bool
	Word string // the word that told
}

// GuessPersonal guesses whether a column holds personal data. It knows the words that schemas use in English, German,
// French, Spanish, Italian, Portuguese, Dutch, Swedish, Danish, Norwegian, Finnish and Polish, in snake, camel and
// joined spelling. It errs on the side of asking: every guess is for a person to confirm.
func GuessPersonal(c Column) (Guess, bool) {
	tokens := Words(c.Name)
	if len(tokens) == 0 {
		return Guess{}, false
	}
	g, ok := guessName(tokens, c.Class)
	if !ok && c.Comment != "" {
		// A comment tells of a column with a cryptic name; its words say less than a name would.
		g, ok = guessComment(c)
		g.Weak = true
	}
	return g, ok
}

// Words splits a name into lower-case words at underscores, dashes, dots, digits and changes of case, and writes
// accented letters plainly.
func Words(name string) []string {
	var out []string
	var word strings.Builder
	flush := func() {
		if word.Len() > 0 {
			out = append(out, word.String())
			word.Reset()
		}
	}
	runes := []rune(name)
	for i, r := range runes {
		if !unicode.IsLetter(r) {
			flush()
			continue
		}
		if unicode.IsUpper(r) && i > 0 {
			lowerBefore := unicode.IsLower(runes[i-1])
			lowerAfter := i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if lowerBefore || (lowerAfter && unicode.IsUpper(runes[i-1])) {
				flush()
			}
		}
		for _, p := range plain(unicode.ToLower(r)) {
			word.WriteRune(p)
		}
	}
	flush()
	return out
}

func plain(r rune) string {
	switch r {
	case 'ä', 'å', 'á', 'à', 'â', 'ã', 'ą':
		return "a"
	case 'ö', 'ø', 'ó', 'ò', 'ô', 'õ':
		return "o"
	case 'ü', 'ú', 'ù', 'û':
		return "u"
	case 'é', 'è', 'ê', 'ë', 'ę':
		return "e"
	case 'í', 'ì', 'î', 'ï':
		return "i"
	case 'ß':
		return "ss"
	case 'ñ', 'ń':
		return "n"
	case 'ç', 'ć':
		return "c"
	case 'ł':
		return "l"
	case 'ś':
		return "s"
	case 'ż', 'ź':
		return "z"
	case 'æ':
		return "ae"
	}
	return string(r)
}

// aboutIt are words that turn a name such as email_verified_at into a fact about sending or state rather than a value.
var aboutIt = words(`verified confirmed sent count counter enabled disabled allowed required valid validated template
	format flag status state type kind version attempts bounced bounces opt optin optout consent changed subject
	notification notifications notify hidden visible public length limit index order sort rank policy provider domains`)

// joinedEndings are words that end a joined name without a separator: "customeremail", "kundenname".
var joinedEndings = []string{
	"email", "mail", "phone", "telefon", "firstname", "lastname", "fullname", "username", "birthday", "birthdate", "address",
	"adresse", "vorname", "nachname", "kundenname", "strasse", "postcode", "zipcode", "ipaddress",
}

// guessName looks up every run of words, longest first, written as one: "first_name", "firstName" and "firstname" are
// the same.
func guessName(tokens []string, class ColumnClass) (Guess, bool) {
	for size := len(tokens); size > 0; size-- {
		for start := len(tokens) - size; start >= 0; start-- {
			joined := strings.Join(tokens[start:start+size], "")
			g, ok := dictionary[joined]
			if !ok && len(joined) > 4 {
				g, ok = dictionary[strings.TrimSuffix(joined, "s")]
			}
			if !ok {
				continue
			}
			rest := slices.Concat(tokens[:start], tokens[start+size:])
			return g, fits(g, class, rest)
		}
	}
	if last := tokens[len(tokens)-1]; class == ClassText {
		for _, ending := range joinedEndings {
			if len(last) > len(ending)+1 && strings.HasSuffix(last, ending) {
				return dictionary[ending], fits(dictionary[ending], class, tokens[:len(tokens)-1])
			}
		}
	}
	return Guess{}, false
}

// fits reports whether a column of this class, with these other words in its name, can hold what the guess says.
func fits(g Guess, class ColumnClass, rest []string) bool {
	for _, w := range rest {
		if aboutIt[w] {
			return false
		}
	}
	if n := len(rest); n > 0 && g.Category != "user.unique_id" && (rest[n-1] == "id" || rest[n-1] == "fk" || rest[n-1] == "ref") {
		return false // address_id refers to an address
	}
	switch class {
	case ClassBool:
		return strings.HasPrefix(g.Category, "user.health") || strings.HasPrefix(g.Category, "user.demographic")
	case ClassDate, ClassTime:
		return strings.Contains(g.Category, "birth") || strings.HasPrefix(g.Category, "user.behavior") ||
			strings.HasPrefix(g.Category, "user.health")
	case ClassInteger, ClassNumber:
		return !strings.HasPrefix(g.Category, "user.name") && g.Category != "user.contact.email" &&
			g.Category != "user.content" && g.Category != "user.device.user_agent"
	case ClassBinary:
		return !g.Weak || g.Category == "user.content"
	}
	return true
}

// guessComment looks for strong words in a column's comment.
func guessComment(c Column) (Guess, bool) {
	tokens := Words(c.Comment)
	for size := 3; size > 0; size-- {
		for start := 0; start+size <= len(tokens); start++ {
			g, ok := dictionary[strings.Join(tokens[start:start+size], "")]
			if ok && !g.Weak && fits(g, c.Class, nil) {
				return g, true
			}
		}
	}
	return Guess{}, false
}

func words(s string) map[string]bool {
	m := make(map[string]bool)
	for _, w := range strings.Fields(s) {
		m[w] = true
	}
	return m
}

// dictionary maps joined words to guesses.
var dictionary = func() map[string]Guess {
	m := make(map[string]Guess)
	for _, e := range []struct {
		category string
		kind     dsr.IdentifierKind
		weak     bool
		words    string
	}{
		{"user.contact.email", dsr.KindEmail, false, `email mail emailaddress mailaddress emailaddr epost epostadress correo
			correoelectronico courriel adressemail adresseemail posta emailadresse mailadresse sahkoposti recipientemail mbox`},
		{"user.contact.phone_number", dsr.KindPhone, false, `phone phonenumber phoneno telephone tel telno telnr telefon telefonnummer
			telefonnr mobile mobil mobilephone mobilenumber mobilnummer mobiltelefon cell cellphone msisdn telefono movil celular
			telefone telemovel telefoon handy handynummer puhelin puhelinnumero tlf tlfnr gsm portable contactno contactnumber whatsapp sms`},
		{"user.contact.fax_number", "", false, "fax faxnumber faxnummer telefax"},
		{"user.name", "", false, `fullname displayname nicename realname surname lastname familyname firstname forename givenname
			middlename maidenname vorname nachname familienname zuname geburtsname prenom nomdefamille nomcomplet nomnaissance nomusage nombre apellido apellidos
			cognome sobrenome apelido voornaam achternaam fornamn efternamn fornavn efternavn etunimi sukunimi imie nazwisko fname lname
			contactname contactperson ansprechpartner kontaktperson customername clientname personname kundenname
			nametolog signature signatory nomutilisateur salutationname cardholder cardholdername holdername accountholder kontoinhaber
			passenger passengername guestname patientname authorname attendee attendeename beneficiary recipientname shiptoname initials`},
		{"user.name", "", true, `name names nom naam namn navn nimi nome nazwa title firstlast recipient addressee author creatorname
			sender byline contact`},
		{"user.account.username", dsr.KindOpaque, false, `username login loginname nickname nick handle screenname pseudo pseudonym benutzername
			anvandarnamn usuario brugernavn kayttajatunnus gebruikersnaam userlogin accountname loginid`},
		{"user.contact.address", "", false, `address street streetaddress addressline addrline addr addrlines strasse str hausnummer
			strassehausnr hausnr housenumber housenr houseno adresse adress adresa direccion calle rue indirizzo via endereco rua morada straat
			huisnummer gata gatuadress gade gate katu ulica postaddress homeaddress billingaddress shippingaddress mailingaddress
			deliveryaddress apartment aptno residence adresszusatz lieferadresse rechnungsadresse anschrift domicilio domicile wohnort`},
		{"user.contact.address.postal_code", "", false, `zip zipcode postcode postalcode plz postleitzahl codepostal codigopostal cap
			cep postnummer postnr postinumero kodpocztowy`},
		{"user.contact.address.city", "", true, `city town ort stadt ville ciudad citta cidade stad plaats postort kaupunki miasto poststed
			localite municipality`},
		{"user.contact.address.country", "", true, "country land pays pais paese kraj maa countrycode nation"},
		{"user.contact.address.state", "", true, "province county region bundesland kanton"},
		{"user.demographic.date_of_birth", "", false, `dob birthday birthdate dateofbirth birth born bornon borndate geburtsdatum geburtstag
			gebdat gebdatum gebtag datenaissance datedenaissance naissance fechanacimiento fechadenacimiento nacimiento datadinascita nascita
			datanascimento nascimento geboortedatum fodelsedatum fodelsedag fodselsdato syntymaaika dataurodzenia birthyear yearofbirth
			geburtsjahr fodd bday`},
		{"user.demographic", "", false, `gender sex geschlecht sexe sexo sesso geslacht kon kjonn sukupuoli plec age alter maritalstatus
			familienstand civilstatus nationality nationalitat nationalite nacionalidad staatsangehorigkeit citizenship ethnicity race
			religion konfession sexualorientation pronouns politicalopinion placeofbirth birthplace geburtsort lieunaissance mothername
			anrede salutation civilite honorific`},
		{"user.demographic.language", "", true, "language locale lang sprache langue timezone"},
		{"user.government_id", dsr.KindOpaque, false, `ssn socialsecurity socialsecuritynumber nationalid nationalidnumber
			personnummer personnr pnr personalnumber cpr cprnumber fodselsnummer hetu henkilotunnus pesel bsn nif nie dni cpf curp
			codicefiscale codfiscale steuerid steuernummer taxid taxnumber taxno tin passport passportno passportnumber reisepass
			reisepassnr driverlicense driverslicense drivinglicence licenseplate fuhrerschein numerosecu nir insee nino
			nationalinsurance sozialversicherungsnummer svnr svnummer ahv ahvnummer identitycard idcard idcardnumber ausweisnummer
			personalausweis organisationsnummer vatid vatnumber`},
		{"user.financial.bank_account", dsr.KindOpaque, false, `iban bic swift bankaccount bankaccountnumber accountnumber kontonummer
			kontonr bankkonto bankverbindung rib sortcode routingnumber bankgiro plusgiro clabe ibannumber`},
		{"user.financial.credit_card", "", false, `creditcard creditcardnumber cardnumber cardno ccnumber ccnum cclast lastfour cvv cvc
			cardlast cardbrand cardexpiry pan maskedpan kreditkarte kartennummer cartebancaire expmonth expyear`},
		{"user.financial", "", false, `salary wage income gehalt lohn salaire salario creditscore networth creditlimit`},
		{"user.financial", "", true, "total amount balance price subtotal grandtotal betrag summe saldo montant discount"},
		{"user.device.ip_address", dsr.KindIP, false, `ip ipaddress ipaddr ipadresse ipadress remoteaddr remoteip clientip sourceip
			ipv ipno adresseip direccionip lastip signupip loginip remotehost registrationip hostip userip peer peerip senderip`},
		{"user.device", "", false, `useragent agentstring browser ua browseragent deviceid deviceuid devicename device devicetoken pushtoken imei
			imsi macaddress macaddr idfa gaid adid fingerprint browserfingerprint serialnumber fcmtoken apnstoken udid`},
		{"user.device.cookie_id", dsr.KindOpaque, false, "cookie cookieid visitorid anonymousid sessionid clientid trackingid gaclientid"},
		{"user.authorization.credentials", "", false, `password passwd pass pwd passwordhash passwdhash pwhash encryptedpassword passwort kennwort
			motdepasse contrasena senha losenord wachtwoord pin pinhash secret otpsecret totpsecret mfasecret recoverycode recoverycodes
			apikey accesstoken refreshtoken oauthtoken resettoken resetpasswordtoken rememberme remembertoken securityanswer
			securityquestion salt passwordsalt authtoken confirmationtoken sessiontoken`},
		{"user.authorization.credentials", "", true, "token hash digest"},
		{"user.location", "", false, `latitude longitude lat lng lon geo geolocation location coordinates gps latlng geopoint geoip
			standort position lastlocation`},
		{"user.health_and_medical", "", false, `diagnosis diagnose diagnoses symptom symptoms allergy allergies allergien medication medications
			medikation medicine prescription bloodtype bloodgroup blutgruppe disability treatment therapy therapie anamnese anamnesis
			condition medicalhistory medicalrecord insurancenumber insuranceno insuranceid krankenkasse versichertennummer
			healthinsurance medicalnotes clinicalnotes befund mrn weight height bmi pregnancy pregnant vaccine vaccination
			numeroassurance mutuelle traitement ordonnance smoker dosage drug finding findings vitals result resultvalue`},
		{"user.biometric", "", false, "faceid faceprint voiceprint retina fingerprintdata biometric biometrics"},
		{"user.content.self_image", "", false, "avatar avatarurl photo photourl profilepicture picture portrait selfie profileimage foto headshot"},
		{"user.job_title", "", false, "jobtitle occupation profession beruf metier profesion employer employername jobposition"},
		{"user.workplace", "", true, "company companyname organisation organization firma societe empresa department"},
		{"user.social", "", false, `twitter twitterhandle facebook facebookid linkedin linkedinurl instagram github skype skypeid telegram
			icq msn yahoo aim jabber xmpp googleid appleid socialid discord mastodon facebookurl`},
		{"user.contact.url", "", true, "website homepage webpage siteweb url weburl personalurl"},
		{"user.behavior", "", false, `lastlogin lastloginat lastlogindate lastseen lastseenat lastvisit lastactive lastactiveat lastsignin
			lastsigninat currentsigninat lastactivity browsinghistory searchquery searchterm pagesviewed clickstream viewedat
			letzteranmeldung derniereconnexion lastpost lastaccess lastvisited visitedurl referer referrer`},
		{"user.content", "", true, `note notes comment comments message body text content description bio biography about aboutme remark
			remarks bemerkung bemerkungen kommentar notiz notizen nachricht betreff observations remarque commentaire commentaires
			mensaje contenido notas beschreibung feedback review reply answer question details memo transcript query subjectline post filename originalfilename
			posttext signaturetext freetext rawpost raw cooked payload reason instructions deliverynote giftmessage motto internalnote
			postbody messagebody mailbody headline subject wishes hinweis anmerkung anmerkungen inhalt meddelande anteckning anteckningar`},
		{"user.unique_id", dsr.KindOpaque, false, `userid customerid memberid clientuserid patientid personid subscriberid kundenid kundennr
			kundennummer customernumber customerno custno clientno memberno membernumber patientno patientnumber matricule
			mitgliedsnummer kundnummer asiakasnumero externaluserid userguid useruuid distinctid employeeid employeeno
			personalnummer studentid numeroclient stripecustomerid externalid`},
		{"user.childrens", "", false, "childname children parentname guardian guardianname mothersname fathersname kinder nextofkin emergencycontact"},
		{"user.criminal_history", "", false, "criminalrecord conviction convictions offence offense"},
	} {
		for _, w := range strings.Fields(e.words) {
			if _, ok := m[w]; !ok {
				m[w] = Guess{Category: e.category, Identifier: e.kind, Weak: e.weak, Word: w}
			}
		}
	}
	return m
}()
