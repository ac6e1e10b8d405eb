"""Names of made-up people in many scripts, as data for `snapshot.demo.people`.

A name is written `native` or `native=ascii`; `_` stands for a blank. Where no ASCII form is given, it is
the name without its diacritics. The last pools hold what breaks careless code: characters outside the
Basic Multilingual Plane, an emoji, a letter made of two code points, a letter that folds to two.
"""
# ruff: noqa: RUF001, ISC004 (the letters are what this file is for)

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

# Letters that have no decomposition into an ASCII letter and a mark.
_LETTERS = str.maketrans(
    {
        "ß": "ss", "æ": "ae", "Æ": "Ae", "ø": "o", "Ø": "O", "å": "a", "Å": "A", "đ": "d", "Đ": "D",
        "ð": "d", "þ": "th", "Þ": "Th", "ł": "l", "Ł": "L", "ı": "i", "œ": "oe",
        "ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue",
    }
)  # fmt: skip
_BLANK = "_"


@dataclass(frozen=True, slots=True)
class Name:
    """One first or last name, and how it is written in a user name: lower case, ASCII."""

    native: str
    ascii: str

    @property
    def lower(self) -> str:
        """Return the native form as the few companies use it that allow it in user names."""
        return "".join(char for char in self.native.lower() if char.isalpha() or char == "-")


@dataclass(frozen=True, slots=True)
class NamePool:
    """First and last names that go together; `share` is how many people of 1,000 come from it."""

    share: int
    first: tuple[Name, ...]
    last: tuple[Name, ...]


def _names(text: str) -> tuple[Name, ...]:
    names = []
    for word in text.split():
        native, _, given = word.partition("=")
        native = native.replace(_BLANK, " ")
        plain = given or unicodedata.normalize("NFKD", native.translate(_LETTERS))
        names.append(Name(native, "".join(char for char in plain.lower() if ("a" <= char <= "z") or char == "-")))
    return tuple(names)


_POOLS = (
    (
        230,
        "James Mary Robert Patricia John Jennifer Michael Linda David Elizabeth William Barbara Richard Susan "
        "Joseph Jessica Thomas Sarah Charles Karen Seán Siobhán Aoife Niamh Pádraig Róisín Ciarán Eilidh Rhys "
        "Anne-Marie Mary_Jane Amélie D'Arcy Latoya Tyrone Priya Wei Olu Zoe Jo",
        "Smith Johnson Williams Brown Jones Miller Davis Wilson Anderson Taylor Thomas Moore Jackson Martin Lee "
        "Thompson White Harris Clark Lewis Robinson Walker Young Allen King Wright Scott Hill Green Adams Baker "
        "Nelson Carter Mitchell O'Brien O'Neill O'Connor O'Sullivan O'Reilly D'Arcy McDonald MacLeod "
        "Smith-Jones Wells-Barnett Ní_Dhomhnaill St._John Featherstonehaugh Li Ng Okafor",
    ),
    (
        170,
        "Jürgen Günther Käthe Ute Björn Jörg Müge Anneliese Lukas Sophie Maximilian Hannah Karl-Heinz Søren Bjørn "
        "Åsa Øyvind Þóra Guðrún Håkon Ingrid Lars Freja Astrid Mikael Päivi Jyrki Aino Sanne Maarten Floor Joost",
        "Müller Schmidt Schneider Fischer Weber Größmann Weiß Strauß Schäfer Köhler Jäger König Böhm Krüger "
        "von_der_Heide van_der_Berg van_'t_Hof de_Vries Jansen Åkesson Öberg Björklund Sørensen Østergård "
        "Þorvaldsson Guðmundsdóttir Hæstad Virtanen Mäkelä Hyvönen Müller-Lüdenscheidt Nyström",
    ),
    (
        170,
        "José María Ángel Sofía Iñaki Begoña Joaquín Inés João Conceição Luís Beatriz François Hélène Zoë Loïc "
        "Jean-Luc Marie-Françoise Amélie Thérèse Giuseppe Chiara Niccolò Lucia Matteo Giulia Ștefan Ioana Andreea "
        "Núria Jordi Martí",
        "García Rodríguez Martínez Hernández Muñoz Núñez Ibáñez García-López de_la_Cruz del_Río Gonçalves Araújo "
        "da_Conceição dos_Santos Lefèvre Français L'Hôpital D'Hondt Château Desprès D'Angelo Dell'Acqua "
        "Dall'Oglio Rossi Bianchi De_Luca Țepeș Brâncuși Ionescu Puig Güell Peña",
    ),
    (
        150,
        "Łukasz Małgorzata Stanisław Zofia Jiří Božena Tomáš Zdeněk Ľubomír Žofia Đorđe Nikša Željko Šime Zoltán "
        "Erzsébet György Ágnes Rūta Jānis Ģirts Žydrūnas Kristjan Ülo Ayşe Çağrı İbrahim Işıl Nguyệt Đức Hồng Aigerim",
        "Wójcik Kowalczyk Wiśniewska Dąbrowski Szczęsny Novák Dvořák Kučera Říha Černý Štefánik Đoković Žižek "
        "Šimić Horváth Szőke Őrsi Nagy Bērziņš Kalniņš Žukauskas Õunapuu Yılmaz Öztürk Çelik Şahin Nguyễn Trần "
        "Đặng Phạm Võ Nazarbek",
    ),
    (
        30,
        "Αλέξανδρος=alexandros Μαρία=maria Γεώργιος=georgios Ελένη=eleni Οδυσσέας=odysseas Σοφία=sofia",
        "Παπαδόπουλος=papadopoulos Οικονόμου=oikonomou Γεωργίου=georgiou Χατζηδάκης=chatzidakis Νίκας=nikas",
    ),
    (
        40,
        "Александр=aleksandr Наталья=natalya Фёдор=fyodor Юлия=yulia Щербан=shcherban Їжак=yizhak Ганна=hanna",
        "Иванов=ivanov Щукина=shchukina Соловьёв=solovyov Жуковская=zhukovskaya Шевченко=shevchenko Ґонґадзе=gongadze",
    ),
    (
        25,
        "محمد=mohammed فاطمة=fatima عبد_الله=abdullah ليلى=layla یوسف=yusuf",
        "الحسن=alhassan المصري=almasri بن_سعيد=bin-said حداد=haddad قریشی=qureshi",
    ),
    (20, "יעקב=yaakov שרה=sara רבקה=rivka נועם=noam", "כהן=cohen לוי=levi בן־דוד=ben-david מזרחי=mizrahi"),
    (
        25,
        "अर्जुन=arjun प्रिया=priya कृष्ण=krishna लक्ष्मी=lakshmi",
        "शर्मा=sharma गुप्ता=gupta त्रिवेदी=trivedi पाटील=patil",
    ),
    (15, "สมชาย=somchai สุดา=suda ปิยะ=piya กานต์=kan", "ศรีสุข=srisuk ทองดี=thongdee วงศ์ใหญ่=wongyai"),
    (
        30,
        "伟=wei 秀英=xiuying 建国=jianguo 子涵=zihan 雅婷=yating",
        "王=wang 李=li 欧阳=ouyang 陈=chen 張=zhang",
    ),
    (
        25,
        "太郎=taro さくら=sakura エミリ=emiri 健一=kenichi 美咲=misaki",
        "佐藤=sato 鈴木=suzuki 渡邊=watanabe 髙橋=takahashi",
    ),
    (20, "민준=minjun 서연=seoyeon 지훈=jihun 하은=haeun", "김=kim 이=lee 박=park 남궁=namgung"),
    (8, "გიორგი=giorgi ნინო=nino თამარ=tamar", "ბერიძე=beridze კაპანაძე=kapanadze ჭავჭავაძე=chavchavadze"),
    (
        8,
        "Արամ=aram Անահիտ=anahit Գևորգ=gevorg",
        "Պետրոսյան=petrosyan Հարությունյան=harutyunyan Գրիգորյան=grigoryan",
    ),
    (8, "አበበ=abebe ሰላም=selam ተስፋዬ=tesfaye", "በቀለ=bekele ገብረመድኅን=gebremedhin ወልደ=wolde"),
    (6, "Sunny_🌻=sunny 𝒜da=ada Zoe\u0308=zoe", "𠮷野=yoshino 𠮷田=yoshida Groß=gross"),
    (
        20,
        'Null=null N/A=na True=true Prince=prince Will_"Bill"=will Björk=bjork',
        "Test=test Null=null O''Hara=ohara Aßmann=assmann X=x",
    ),
)


def name_pools() -> tuple[NamePool, ...]:
    """Return the pools; their shares add up to 1,000."""
    return tuple(NamePool(share, _names(first), _names(last)) for share, first, last in _POOLS)
