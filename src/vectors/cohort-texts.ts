/**
 * Texts about sixteen things that have nothing to do with each other, in several languages: see cohort.ts. They are as
 * long as messages are, because that matters to some models.
 */
export const cohortTexts = {
  en: `
The ferry to the island leaves at seven in the morning, and in winter it runs only on Tuesdays and Fridays.
My sister has been learning the trumpet since March, so our neighbours now know every note of her scales.
Rinse the lentils, fry the onions until they are golden, then let everything simmer for forty minutes with a bay leaf.
The referee stopped the match in the second half because fog had made it impossible to see the far goal.
A glacier carries stones along for thousands of years and leaves them behind in ridges where it melts.
Please sign the lease on both pages and send one copy back before the end of the month.
She painted the garden fence green last summer, but the rain has already washed some of it off.
Interest on the loan is fixed for ten years, after which the bank may adjust it once every quarter.
The old printer makes a grinding noise and pulls in three sheets at a time instead of one.
In the novel the lighthouse keeper writes letters to a woman whom he has never met.
Bees dance in the hive to tell the others in which direction and how far away the flowers are.
Our dog was at the vet yesterday and must wear a collar until the wound on his paw has healed.
The parliament votes on the new law about rivers next week, after a debate of two days.
For a marathon you should increase the distance slowly and rest one day after each long run.
The museum shows coins and jewellery from a Roman grave that was found while a road was being built.
He missed his connecting train in Lyon and spent the night in a hotel beside the station.`,
  de: `
Die Fähre zur Insel legt morgens um sieben ab und fährt im Winter nur dienstags und freitags.
Meine Schwester lernt seit März Trompete, und die Nachbarn kennen inzwischen jeden Ton ihrer Tonleitern.
Die Linsen abspülen, die Zwiebeln goldbraun braten und alles mit einem Lorbeerblatt vierzig Minuten köcheln lassen.
Der Schiedsrichter brach das Spiel in der zweiten Halbzeit ab, weil man im Nebel das andere Tor nicht mehr sah.
Ein Gletscher trägt Steine über Jahrtausende mit sich und lässt sie dort liegen, wo er schmilzt.
Bitte unterschreiben Sie den Mietvertrag auf beiden Seiten und schicken Sie ein Exemplar bis Monatsende zurück.
Sie hat den Gartenzaun letzten Sommer grün gestrichen, aber der Regen hat schon einiges davon abgewaschen.
Der Zins des Darlehens ist für zehn Jahre fest, danach darf die Bank ihn jedes Quartal anpassen.
Der alte Drucker knirscht beim Arbeiten und zieht immer drei Blätter auf einmal ein.
In dem Roman schreibt der Leuchtturmwärter Briefe an eine Frau, der er nie begegnet ist.
Bienen tanzen im Stock, um den anderen zu zeigen, in welcher Richtung und wie weit entfernt die Blüten sind.
Unser Hund war gestern beim Tierarzt und muss einen Kragen tragen, bis die Wunde an der Pfote verheilt ist.
Das Parlament stimmt nächste Woche nach zweitägiger Debatte über das neue Gesetz zu den Flüssen ab.
Für einen Marathon sollte man die Strecke langsam steigern und nach jedem langen Lauf einen Tag ruhen.
Das Museum zeigt Münzen und Schmuck aus einem römischen Grab, das man beim Bau einer Straße fand.
Er hat in Lyon den Anschlusszug verpasst und die Nacht in einem Hotel am Bahnhof verbracht.`,
  fr: `
Le bac pour l'île part à sept heures du matin, et en hiver il ne circule que le mardi et le vendredi.
Ma sœur apprend la trompette depuis mars, et les voisins connaissent désormais chaque note de ses gammes.
Rincez les lentilles, faites dorer les oignons, puis laissez mijoter le tout quarante minutes avec une feuille de laurier.
L'arbitre a arrêté le match en seconde période parce que le brouillard cachait le but d'en face.
Un glacier transporte des pierres pendant des milliers d'années et les abandonne là où il fond.
Merci de signer le bail sur les deux pages et d'en renvoyer un exemplaire avant la fin du mois.
Elle a repeint la clôture du jardin en vert l'été dernier, mais la pluie en a déjà emporté une partie.
Le taux du prêt est fixe pendant dix ans, puis la banque peut le réviser chaque trimestre.
La vieille imprimante grince et avale trois feuilles à la fois au lieu d'une seule.
Dans le roman, le gardien du phare écrit des lettres à une femme qu'il n'a jamais rencontrée.
Les abeilles dansent dans la ruche pour indiquer aux autres la direction et la distance des fleurs.
Notre chien était hier chez le vétérinaire et doit porter une collerette jusqu'à ce que sa patte soit guérie.
Le parlement vote la semaine prochaine la nouvelle loi sur les rivières, après deux jours de débat.
Pour un marathon, il faut augmenter la distance peu à peu et se reposer un jour après chaque longue sortie.
Le musée expose des monnaies et des bijoux d'une tombe romaine découverte pendant la construction d'une route.
Il a manqué sa correspondance à Lyon et a passé la nuit dans un hôtel près de la gare.`,
  es: `
El transbordador a la isla sale a las siete de la mañana y en invierno solo circula los martes y los viernes.
Mi hermana aprende a tocar la trompeta desde marzo, y los vecinos ya conocen cada nota de sus escalas.
Enjuague las lentejas, dore las cebollas y deje cocer todo cuarenta minutos con una hoja de laurel.
El árbitro suspendió el partido en el segundo tiempo porque la niebla no dejaba ver la otra portería.
Un glaciar arrastra piedras durante miles de años y las abandona donde se derrite.
Firme el contrato de alquiler en las dos páginas y devuelva una copia antes de fin de mes.
Ella pintó de verde la valla del jardín el verano pasado, pero la lluvia ya se ha llevado una parte.
El interés del préstamo es fijo durante diez años; después el banco puede revisarlo cada trimestre.
La impresora vieja hace un ruido áspero y toma tres hojas a la vez en lugar de una.
En la novela, el farero escribe cartas a una mujer a la que nunca ha conocido.
Las abejas bailan en la colmena para indicar a las demás en qué dirección y a qué distancia están las flores.
Nuestro perro estuvo ayer en el veterinario y debe llevar un collar hasta que se le cure la pata.
El parlamento vota la semana que viene la nueva ley de ríos, tras un debate de dos días.
Para un maratón conviene aumentar la distancia poco a poco y descansar un día después de cada carrera larga.
El museo expone monedas y joyas de una tumba romana hallada al construir una carretera.
Perdió el tren de enlace en Lyon y pasó la noche en un hotel junto a la estación.`,
  pt: `
A balsa para a ilha parte às sete da manhã e, no inverno, só funciona às terças e às sextas.
A minha irmã aprende trompete desde março, e os vizinhos já conhecem todas as notas das suas escalas.
Lave as lentilhas, doure as cebolas e deixe tudo cozinhar quarenta minutos com uma folha de louro.
O árbitro interrompeu o jogo na segunda parte porque o nevoeiro não deixava ver a outra baliza.
Um glaciar arrasta pedras durante milhares de anos e abandona-as onde derrete.
Assine o contrato de arrendamento nas duas páginas e devolva uma cópia até ao fim do mês.
Ela pintou a cerca do jardim de verde no verão passado, mas a chuva já levou uma parte.
A taxa do empréstimo é fixa por dez anos; depois o banco pode revê-la a cada trimestre.
A impressora velha range e puxa três folhas de cada vez em vez de uma.
No romance, o faroleiro escreve cartas a uma mulher que nunca conheceu.
As abelhas dançam na colmeia para mostrar às outras em que direção e a que distância estão as flores.
O nosso cão esteve ontem no veterinário e tem de usar um colar até a ferida da pata sarar.
O parlamento vota na próxima semana a nova lei dos rios, depois de um debate de dois dias.
Para uma maratona convém aumentar a distância devagar e descansar um dia depois de cada corrida longa.
O museu mostra moedas e joias de um túmulo romano encontrado durante a construção de uma estrada.
Ele perdeu a ligação em Lyon e passou a noite num hotel ao lado da estação.`,
  ru: `
Паром на остров отходит в семь утра, а зимой ходит только по вторникам и пятницам.
Моя сестра с марта учится играть на трубе, и соседи уже знают каждую ноту её гамм.
Промойте чечевицу, обжарьте лук до золотистого цвета и тушите всё сорок минут с лавровым листом.
Судья остановил матч во втором тайме, потому что из-за тумана не было видно дальних ворот.
Ледник тысячелетиями несёт с собой камни и оставляет их там, где тает.
Пожалуйста, подпишите договор аренды на обеих страницах и верните один экземпляр до конца месяца.
Прошлым летом она покрасила садовый забор в зелёный цвет, но дождь уже смыл часть краски.
Ставка по кредиту неизменна десять лет, а потом банк может пересматривать её раз в квартал.
Старый принтер скрежещет и захватывает по три листа вместо одного.
В романе смотритель маяка пишет письма женщине, которую никогда не встречал.
Пчёлы танцуют в улье, чтобы показать другим, в какой стороне и как далеко находятся цветы.
Наша собака вчера была у ветеринара и должна носить воротник, пока не заживёт рана на лапе.
На следующей неделе парламент голосует по новому закону о реках после двухдневных дебатов.
Готовясь к марафону, увеличивайте дистанцию постепенно и отдыхайте день после каждого долгого бега.
В музее выставлены монеты и украшения из римской могилы, найденной при строительстве дороги.
Он опоздал на пересадку в Лионе и провёл ночь в гостинице у вокзала.`,
  zh: `
去岛上的渡轮早上七点开船，冬天只在星期二和星期五运行。
我妹妹从三月开始学小号，邻居们现在都熟悉她练习的每一个音了。
把扁豆洗净，洋葱炒到金黄，然后加一片月桂叶，小火煮四十分钟。
裁判在下半场中止了比赛，因为大雾让人看不见对面的球门。
冰川带着石头走了几千年，在融化的地方把它们留下。
请在租约的两页上签字，并在月底之前寄回一份。
去年夏天她把花园的篱笆刷成了绿色，可是雨水已经冲掉了一些。
这笔贷款的利率十年不变，之后银行每个季度可以调整一次。
旧打印机发出刺耳的声音，一次总是吸进三张纸。
小说里的灯塔看守人给一位从未见过面的女人写信。
蜜蜂在蜂巢里跳舞，告诉同伴花朵在哪个方向、有多远。
我们的狗昨天去看了兽医，爪子上的伤好之前得一直戴着项圈。
议会经过两天的辩论，下周将对新的河流法进行表决。
准备马拉松要慢慢增加距离，每次长跑之后休息一天。
博物馆展出修路时发现的一座罗马古墓里的钱币和首饰。
他在里昂错过了换乘的火车，在车站旁边的旅馆过了一夜。`,
  ja: `
島へのフェリーは朝七時に出発し、冬は火曜日と金曜日だけ運航します。
妹は三月からトランペットを習っていて、近所の人は音階の一つ一つをもう覚えてしまいました。
レンズ豆を洗い、玉ねぎをきつね色に炒めて、ローリエと一緒に四十分煮込みます。
霧で向こうのゴールが見えなくなったので、審判は後半に試合を止めました。
氷河は何千年もかけて石を運び、溶けた所に残していきます。
賃貸契約書の両方のページに署名し、月末までに一部を返送してください。
彼女は去年の夏に庭の柵を緑に塗りましたが、雨で一部がもう落ちてしまいました。
ローンの金利は十年間固定で、その後は銀行が四半期ごとに見直せます。
古いプリンターは変な音を立てて、紙を一度に三枚も吸い込みます。
その小説では、灯台守が一度も会ったことのない女性に手紙を書きます。
ミツバチは巣の中で踊り、花のある方向と距離を仲間に伝えます。
うちの犬は昨日動物病院に行き、足の傷が治るまでカラーを着けていなければなりません。
議会は二日間の討論の後、来週新しい河川法を採決します。
マラソンのためには距離を少しずつ伸ばし、長く走った翌日は休むとよいでしょう。
博物館は道路工事で見つかったローマ時代の墓の硬貨と装身具を展示しています。
彼はリヨンで乗り継ぎの電車に間に合わず、駅のそばのホテルに泊まりました。`,
};
